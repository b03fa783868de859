// expect: changed helper, f
// expect: outside __livepatch_original_0_helper, register_it
// flags: -fcf-protection=branch
// shipped: -fcf-protection=branch -DSHIPPED
// expect: unresolved sealed-address helper
// A local function whose address nothing takes is compiled without endbr64. That the patched one has it does not help:
// what is handed out is the kernel's own function, which outlives the livepatch.
void register_it(int (*)(int));

static __attribute__((noinline)) int helper(int x)
{
	asm volatile("");
	return x + 1;
}

int f(int x)
{
#ifdef PATCHED
	register_it(helper);
#endif
	return helper(x);
}

#ifdef SHIPPED
asm(".pushsection .ibt_endbr_seal, \"a\"; .long f - .; .popsection");
#endif
