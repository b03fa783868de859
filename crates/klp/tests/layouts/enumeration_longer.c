// expect: layout enum kind: the size goes from 4 to 8 bytes
// expect: follows struct a: enum kind
enum kind {
	A = 1,
#ifdef PATCHED
	B = 0x100000000,
#endif
};
struct a {
	enum kind kind;
	int x;
};

int f(struct a *a)
{
	return a->x + (a->kind == A);
}
