// Of copies in copies the outermost function has the code; a clone counts as its function.
// expect: inlined both into user
// expect: inlined inner into other, user
// expect: inlined middle into user
// expect: no-code inner
// expect: no-code middle
void use(int);
static inline __attribute__((always_inline)) int inner(int x)
{
	use(x);
	return x + 1;
}
static inline __attribute__((always_inline)) int middle(int x)
{
	return inner(inner(x));
}
int both(int x)
{
	use(x);
	return x;
}
int user(int x)
{
	return both(middle(x));
}
int other(int x)
{
	return inner(x);
}
