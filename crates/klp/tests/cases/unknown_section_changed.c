// expect: refused unknown-section .mystery
// Nobody knows what a table is for, and the patch adds to it.
#ifdef PATCHED
static long entry __attribute__((section(".mystery"), used)) = 3;
#endif

int f(int x)
{
	return x;
}
