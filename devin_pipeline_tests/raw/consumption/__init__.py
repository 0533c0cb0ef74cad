"""The bill, the lists, and the days on which sessions consumed their ACUs."""
