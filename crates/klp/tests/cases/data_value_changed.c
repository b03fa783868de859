// expect: changed none
// expect: omitted data-changed limit
// A livepatch replaces functions; a variable keeps the value it has. Whether that matters is for a person.
#ifdef PATCHED
int limit = 8;
#else
int limit = 16;
#endif

int f(int x)
{
	return x < limit;
}
