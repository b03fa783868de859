// expect: changed f
// expect: outside f_too
// expect: omitted left-out f_too
// expect: left out f_too: its callers check
// A function that a mark leaves out stays as it is in the kernel, for the livepatch too.
int exported(int);

__attribute__((noinline)) int f_too(int x)
{
#ifdef PATCHED
	if (x < 0)
		return -22;
#endif
	return exported(x);
}

int f(int x)
{
#ifdef PATCHED
	if (x < 0)
		return -22;
#endif
	return f_too(x) + 1;
}

#ifdef PATCHED
static const char a[] __attribute__((used, section(".livepatch.leave_out"), aligned(1))) = "f_too=its callers check";
#endif
