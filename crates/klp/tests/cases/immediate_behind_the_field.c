// expect: changed f
// expect: outside state
// `movl $imm, state(%rip)` has an immediate behind the relocated field: the addend is not -4.
static struct { int a, b, c; } state;

void f(int x)
{
#ifdef PATCHED
	if (x)
		state.b = 77;
#endif
	state.c = 99;
}

int g(void)
{
	return state.a + state.b + state.c;
}
