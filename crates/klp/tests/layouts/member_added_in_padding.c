// expect: layout struct a.flags: the patch adds it: unsigned char[3] (3 bytes) at byte 1; in what was padding: the size stays 8 bytes
struct a {
	char kind;
#ifdef PATCHED
	unsigned char flags[3];
#endif
	int value;
};

int f(struct a *a)
{
	return a->value;
}
