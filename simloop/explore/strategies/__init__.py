"""Strategies, one file each: how a campaign picks the schedule to try next."""
