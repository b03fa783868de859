// expect: layout struct a.gone: the patch removes it; it was int (*)(struct a *, int) (8 bytes) at byte 8; 1 other member moves; the size goes from 24 to 16 bytes
struct a {
	long x;
#ifndef PATCHED
	int (*gone)(struct a *, int);
#endif
	long y;
};

long f(struct a *a)
{
	return a->y;
}
