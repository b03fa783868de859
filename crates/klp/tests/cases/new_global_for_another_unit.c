// expect: added fresh, fresh_state
// Nothing here uses it; another unit of the patch may.
#ifdef PATCHED
int fresh_state = 3;

int fresh(int x)
{
	return x * fresh_state++;
}
#endif

int f(int x)
{
	return x;
}
