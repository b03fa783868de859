// expect: refused author-mark .livepatch.states
// The kernel's list of states ends at number 0.
int f(int x)
{
#ifdef PATCHED
	if (x < 0)
		return -22;
#endif
	return x + 1;
}

#ifdef PATCHED
static const struct {
	unsigned long id;
	unsigned int version;
} a __attribute__((used, section(".livepatch.states"), aligned(8))) = { 0, 1 };
#endif
