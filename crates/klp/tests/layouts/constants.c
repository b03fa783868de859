// expect: constant C 2 -> 3
// expect: constant FIRST -1 -> -2
// expect: layout struct a.slots: it was int[2] (8 bytes) at byte 0, and is int[3] (12 bytes) at byte 0; the size goes from 8 to 12 bytes
enum kind {
	A,
	B,
#ifdef PATCHED
	NEW,
#endif
	C,
};
enum {
#ifdef PATCHED
	FIRST = -2,
#else
	FIRST = -1,
#endif
};
struct a {
	int slots[C];
};

int f(struct a *a, enum kind kind)
{
	return kind == C ? FIRST : a->slots[0];
}
