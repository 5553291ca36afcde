/** webgpu under Node: Google's Dawn, as the npm package `webgpu` brings it. */

/** What `webgpu` exports, as far as it is used here. */
interface Dawn {
  create(flags: string[]): {requestAdapter(): Promise<Adapter | null>};
  globals: Record<string, unknown>;
}

interface Adapter {
  readonly info?: {readonly vendor?: string; readonly architecture?: string; readonly description?: string};
  readonly isFallbackAdapter?: boolean;
}

/** A graphics adapter, and whether it is a program that plays one. */
export interface Graphics {
  readonly name: string;
  readonly isSoftware: boolean;
}

/**
 * Puts `navigator.gpu` where tfjs's webgpu backend looks for it, and says what is behind it; undefined where the
 * package is missing or no adapter is there. The backend's package asks once, when it is imported: call this before.
 */
export async function openWebgpu(): Promise<Graphics | undefined> {
  try {
    const name = 'webgpu';
    const {create, globals} = (await import(name)) as Dawn;
    process.env['XDG_RUNTIME_DIR'] ??= '/tmp';
    Object.assign(globalThis, globals);
    const gpu = create([]);
    const adapter = await gpu.requestAdapter();
    if (!adapter) return undefined;
    const navigator = {gpu, userAgent: 'node'};
    Object.defineProperty(globalThis, 'navigator', {value: navigator, configurable: true, writable: true});
    const {vendor, architecture, description} = adapter.info ?? {};
    const words = [description, vendor, architecture].filter(word => word);
    return {
      name: words[0] ?? 'unnamed adapter',
      isSoftware:
        Boolean(adapter.isFallbackAdapter) || /swiftshader|llvmpipe|lavapipe/i.test(words.join(' ')),
    };
  } catch {
    return undefined;
  }
}
