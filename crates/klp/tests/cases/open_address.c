// expect: changed f
// expect: outside helper, register_it
// flags: -fcf-protection=branch
// shipped: -fcf-protection=branch -DSHIPPED
// expect: redirects f,0
// In a kernel with IBT the patch may hand out the address of a function that has kept its endbr64.
void register_it(int (*)(int));

int helper(int x)
{
	return x + 1;
}

void f(int x)
{
#ifdef PATCHED
	register_it(helper);
#else
	register_it(0);
#endif
}

#ifdef SHIPPED
asm(".pushsection .ibt_endbr_seal, \"a\"; .long f - .; .popsection");
#endif
