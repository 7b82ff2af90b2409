/** What a test prints (counts, seeds, seconds) appears as it is, without jest's frame of file names around each line. */
import { Console } from 'node:console'

globalThis.console = new Console(process.stdout, process.stderr)
