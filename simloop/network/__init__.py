"""What lies between hosts: names, addresses, links, and how long a packet is on its way."""
