// expect: layout struct pair.right: the patch adds it: int (4 bytes) at byte 4; the size goes from 4 to 8 bytes; only f has this type
// expect: inlined g into h
// expect: no-code g
struct pair {
	long other;
};
void use(void *p);
void f(int x)
{
	struct pair {
		int left;
#ifdef PATCHED
		int right;
#endif
	} pair = { x };
	use(&pair);
}
static inline __attribute__((always_inline)) void g(struct pair *p)
{
	use(p);
}
void h(struct pair *p)
{
	g(p);
}
