// expect: layout struct ops.call: it was int (*)(int) (8 bytes) at byte 0, and is int (*)(int, long int) (8 bytes) at byte 0; the size stays 8 bytes
struct ops {
#ifdef PATCHED
	int (*call)(int, long);
#else
	int (*call)(int);
#endif
};

int f(struct ops *ops)
{
	return !ops->call;
}
