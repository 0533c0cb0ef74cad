"""The client, against a scripted server over real sockets."""
