// expect: changed f
// expect: outside g
// expect: unresolved fidelity f
// shipped: -DSHIPPED
// The shipped kernel has another unit's definition under this name.
int g(int);

#ifdef SHIPPED
__attribute__((noipa)) int f(int x)
{
	return g(x) * 77;
}
#else
__attribute__((weak)) int f(int x)
{
#ifdef PATCHED
	if (x < 0)
		return -22;
#endif
	return g(x);
}
#endif

int caller(int x)
{
	return f(x) + 1;
}
