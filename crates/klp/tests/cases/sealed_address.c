// expect: changed f
// expect: outside helper, register_it
// flags: -fcf-protection=branch
// shipped: -fcf-protection=branch -DSHIPPED
// expect: unresolved sealed-address helper
// Nothing takes the address of `helper` in this kernel, so at boot it overwrites the endbr64 there. Only the patch
// hands the address out: the first indirect call would stop a kernel with IBT.
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
asm(".pushsection .ibt_endbr_seal, \"a\"; .long helper - .; .popsection");
#endif
