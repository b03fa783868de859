// expect: refused not-supported __SCT__event
// A static call of the livepatch's own: nothing would tell the kernel its key.
int g(int);
int __SCT__event(int);

#ifdef PATCHED
asm(".pushsection .static_call.text, \"ax\"; .globl __SCT__event; __SCT__event: jmp g; .type __SCT__event, @function;"
    ".size __SCT__event, . - __SCT__event; .popsection");
#endif

int f(int x)
{
#ifdef PATCHED
	return __SCT__event(x);
#else
	return g(x);
#endif
}
