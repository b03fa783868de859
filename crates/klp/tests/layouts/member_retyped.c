// expect: layout struct a.x: it was int (4 bytes) at byte 0, and is unsigned int (4 bytes) at byte 0; the size stays 16 bytes
// expect: layout struct b.p: it was void * (8 bytes) at byte 0, and is struct a * (8 bytes) at byte 0; the size stays 8 bytes
#ifdef PATCHED
#define INT unsigned int
#define PTR struct a
#else
#define INT int
#define PTR void
#endif
struct a {
	INT x;
	long y;
};
struct b {
	PTR *p;
};

long f(struct a *a, struct b *b)
{
	return a->x + a->y + (long)b->p;
}
