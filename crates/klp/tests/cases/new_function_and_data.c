// expect: changed f
// expect: added fresh, fresh_state
// expect: ended-in fresh
// New functions and variables come along.
#ifdef PATCHED
static int fresh_state = 3;

static __attribute__((noinline)) int fresh(int x)
{
	return x * fresh_state++;
}
#endif

int f(int x)
{
#ifdef PATCHED
	return fresh(x);
#else
	return x;
#endif
}
