// expect: layout struct a.pair.right: it was char (1 byte) at byte 13, and is short int (2 bytes) at byte 14; the size stays 16 bytes
// expect: layout struct b.y: it moves from byte 4 to byte 0; the size stays 8 bytes
struct a {
	long x;
	union {
		int y;
		struct {
			char z;
		};
	};
	struct {
		char left;
#ifdef PATCHED
		short right;
#else
		char right;
#endif
	} pair;
};
#ifdef PATCHED
struct b {
	union {
		int x;
		int y;
	};
	int z;
};
#else
struct b {
	int x;
	union {
		int y;
		int z;
	};
};
#endif

int f(struct a *a, struct b *b)
{
	return a->pair.right + b->x;
}
