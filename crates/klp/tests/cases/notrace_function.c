// expect: changed none
// expect: omitted not-traceable f
// Without a call to __fentry__ nothing can redirect it.
__attribute__((no_instrument_function)) int f(int x)
{
#ifdef PATCHED
	return x + 2;
#else
	return x + 1;
#endif
}
