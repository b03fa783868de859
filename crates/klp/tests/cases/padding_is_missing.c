// expect: changed f
// expect: padded f,16
// flags: -fpatchable-function-entry=16,16 -falign-functions=16
// shipped: -falign-functions=16
// expect: unresolved fidelity f
// A kernel without the padding is not the one that the unit was compiled for.
int f(int x)
{
#ifdef PATCHED
	return x + 2;
#else
	return x + 1;
#endif
}
