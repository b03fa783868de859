// expect: layout struct a: the size goes from 4 to 16 bytes
struct a {
	int x;
}
#ifdef PATCHED
__attribute__((aligned(16)))
#endif
;

int f(struct a *a)
{
	return a->x;
}
