"""The network between hosts: names, addresses, links, and the delay of packets."""
