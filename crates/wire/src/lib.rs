//! Every byte format: checked views and meaningful values; inner IP, TCP, UDP and ICMP headers.
