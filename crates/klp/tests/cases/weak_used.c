// expect: changed f
// expect: outside g
// expect: redirects f,0
// shipped: -DSHIPPED
// A weak definition that nobody overrides.
int g(int);

__attribute__((weak)) int f(int x)
{
#ifdef PATCHED
	if (x < 0)
		return -22;
#endif
	return g(x);
}
