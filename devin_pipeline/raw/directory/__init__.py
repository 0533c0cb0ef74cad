"""Stores the lists: organizations, people, playbooks, billing cycles and limits, as the API returned them."""
