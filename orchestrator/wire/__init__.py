"""What goes over wires, without input or output: control protocol, messages, values."""
