"""Network between hosts: names, addresses, links, delays of packets, and faults."""
