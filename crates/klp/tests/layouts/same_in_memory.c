// expect: none
// Another name for the same type, qualifiers, a new type, and a structure that only now is known.
typedef unsigned int u32;
typedef u32 another;
struct late;
#ifdef PATCHED
struct late {
	int x;
};
struct new {
	int y;
};
struct a {
	another x;
	const long long y;
	const struct late *late;
};
int g(struct new *new)
{
	return new->y;
}
#else
struct a {
	u32 x;
	long y;
	struct late *late;
};
#endif

long f(struct a *a)
{
	return a->x + a->y + (long)a->late;
}
