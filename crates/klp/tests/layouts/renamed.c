// expect: renamed struct a.flags
struct a {
#ifdef PATCHED
	int flags;
#else
	int reserved;
#endif
	int x;
};

int f(struct a *a)
{
	return a->x;
}
