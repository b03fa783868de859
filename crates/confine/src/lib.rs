//! Floor 2: what the processes of a host give up at their start. (Follows.)
