// expect: changed f
// expect: outside limit
// expect: omitted data-changed limit
// The function is redirected and goes on with the value that the variable has.
#ifdef PATCHED
int limit = 8;
#else
int limit = 16;
#endif

int f(int x)
{
#ifdef PATCHED
	if (x < 0)
		return 0;
#endif
	return x < limit;
}
