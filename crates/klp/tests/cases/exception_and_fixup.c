// expect: changed f
// expect: outside ex_handler_default
// Each function's code for exceptions comes along with its entries, whoever stands beside it.
#define LOAD(value, from) \
	asm volatile("1: movl (%1), %0\n2:\n.pushsection .fixup,\"ax\"\n3: movl $-14, %0\njmp 2b\n.popsection\n" \
		     ".pushsection __ex_table,\"a\"\n.balign 4\n.long 1b - .\n.long 3b - .\n" \
		     ".long ex_handler_default - .\n.popsection" : "=r" (value) : "r" (from))

int before(int *p)
{
	int x;
	LOAD(x, p);
	return x + 1;
}

int f(int *p)
{
	int x;
#ifdef PATCHED
	if (!p)
		return -22;
#endif
	LOAD(x, p);
	return x;
}
