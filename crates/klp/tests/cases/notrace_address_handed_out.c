// expect: refused not-traceable check
// The copy would be reached by an address that outlives the livepatch.
int g(int);
int (*known)(int);

__attribute__((noinline, no_instrument_function)) int check(int x)
{
#ifdef PATCHED
	if (x < 0)
		return -22;
#endif
	return g(x) * g(x + 1);
}

void f(int x)
{
#ifdef PATCHED
	if (x)
		return;
#endif
	known = check;
}
