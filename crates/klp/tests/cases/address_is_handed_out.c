// expect: changed callback, f
// expect: outside __livepatch_original_0_callback, register_it
// A callback that others keep must be the kernel's own function, which outlives the livepatch.
void register_it(int (*)(int));

int callback(int x)
{
#ifdef PATCHED
	return x + 2;
#else
	return x + 1;
#endif
}

void f(int x)
{
#ifdef PATCHED
	if (x)
#endif
		register_it(callback);
}
