// expect: changed f
// expect: states 7 version 2, 9 version 1
// States of the system that the livepatch makes, each named once.
int f(int x)
{
#ifdef PATCHED
	if (x < 0)
		return -22;
#endif
	return x + 1;
}

#ifdef PATCHED
struct state {
	unsigned long id;
	unsigned int version;
};

#define STATE(name, ...) \
	static const struct state name __attribute__((used, section(".livepatch.states"), aligned(8))) = { __VA_ARGS__ }
STATE(a, 9, 1);
STATE(b, 7, 2);
STATE(c, 9, 1);
#endif
