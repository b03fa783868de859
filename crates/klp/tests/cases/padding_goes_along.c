// expect: changed callback, f
// expect: padded callback,16, f,16
// expect: outside register_it
// flags: -fcf-protection=branch -fpatchable-function-entry=16,16 -falign-functions=16
// shipped: -fcf-protection=branch -fpatchable-function-entry=16,16 -falign-functions=16
// expect: redirects callback,0 f,0
// CONFIG_CALL_PADDING: the kernel writes code into the bytes before a function, in modules too.
void register_it(int);

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
		register_it(x);
}
