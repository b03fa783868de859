// expect: changed f
// expect: section .discard.ignore_alts 4
// expect: section .discard.retpoline_safe 8
// Marks go along with the code that they belong to, whatever the length of their pointers: objtool reads them.
int f(int (*g)(void))
{
	asm volatile("999: nop; .pushsection .discard.ignore_alts; .long 999b; .popsection");
	asm volatile("999: nop; .pushsection .discard.retpoline_safe; .quad 999b; .popsection");
#ifdef PATCHED
	return 2;
#else
	return 1;
#endif
}

int unchanged(int x)
{
	asm volatile("999: nop; .pushsection .discard.ignore_alts; .long 999b; .popsection");
	return x;
}
