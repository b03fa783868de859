// expect: layout struct a.y: the patch adds it: long int (8 bytes) at byte 8; the size goes from 8 to 16 bytes
// expect: layout struct b.own: the patch adds it: int (4 bytes) at byte 16; 1 other member moves; the size goes from 16 to 24 bytes
struct a {
	long x;
#ifdef PATCHED
	long y;
#endif
};
struct b {
	struct a a;
#ifdef PATCHED
	int own;
#endif
	int last;
};

int f(struct b *b)
{
	return b->last;
}
