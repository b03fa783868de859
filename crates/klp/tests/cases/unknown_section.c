// expect: refused unknown-section .mystery
// A table that nobody knows points into the patched function.
int f(int x)
{
#ifdef PATCHED
	return x + 2;
#else
	return x + 1;
#endif
}
static void *entry __attribute__((section(".mystery"), used)) = f;
