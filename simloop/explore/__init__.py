"""Looking for the schedule that fails: what to try next, when to stop, and how to make a finding small."""
