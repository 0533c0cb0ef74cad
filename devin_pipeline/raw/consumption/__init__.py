"""Stores the bill: what is billed by day, and on which days sessions consumed their ACUs, as the API returned it."""
