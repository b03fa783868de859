// expect: changed f
// expect: added check
// expect: outside g
// expect: omitted not-traceable check
// Others may call it and will meet the old one; what comes along takes the new one along.
int g(int);

__attribute__((noinline, no_instrument_function)) int check(int x)
{
#ifdef PATCHED
	if (x < 0)
		return -22;
#endif
	return g(x) * g(x + 1);
}

int f(int x)
{
#ifdef PATCHED
	if (check(x + 1))
		return 0;
#endif
	return check(x) + 1;
}
