// expect: layout struct a.new: the patch adds it: struct a * (8 bytes) at byte 8; 2 other members move; the size goes from 24 to 32 bytes
struct a {
	long first;
#ifdef PATCHED
	struct a *new;
#endif
	long second;
	char third[8];
};

long f(struct a *a)
{
	return a->second;
}
