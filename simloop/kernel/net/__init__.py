"""Socket layer of one host: TCP, UDP and unix sockets with the behaviour of Linux."""
