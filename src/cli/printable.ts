/** Text as it may go to a terminal: what could steer it (ESC, carriage return, …) is shown as U+FFFD. */
export const printable = (text: string): string =>
  text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, '\ufffd');
