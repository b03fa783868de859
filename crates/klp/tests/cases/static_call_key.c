// expect: changed f
// expect: outside __SCK__event, __SCT__event
// objtool needs the key of a static call among the symbols, though no code refers to it.
void __SCT__event(int);

int f(int x)
{
	__SCT__event(x);
#ifdef PATCHED
	return x + 2;
#else
	return x + 1;
#endif
}
