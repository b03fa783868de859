// expect: refused data-changed limit
// A livepatch replaces functions; a variable keeps the value it has.
#ifdef PATCHED
int limit = 8;
#else
int limit = 16;
#endif

int f(int x)
{
	return x < limit;
}
