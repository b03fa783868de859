// expect: changed f
// expect: omitted init-changed start
// The init part is left out and said so; whether the fix is whole without it is for a person.
int f(int x)
{
#ifdef PATCHED
	if (x > 9)
		return -22;
#endif
	return x;
}

__attribute__((section(".init.text"))) int start(int x)
{
#ifdef PATCHED
	return x + 2;
#else
	return x + 1;
#endif
}
